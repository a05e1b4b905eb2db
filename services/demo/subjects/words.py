"""The words that the demo model can spell."""

from __future__ import annotations

from octavo.services.demo.listed import listed

WORDS = listed(
    "able about above across actor after again air alone along animal answer apple april arm "
    "army arrow artist autumn baby back bag bake ball banana bank basket bath beach bean bear "
    "beauty bed bee begin bell bird birthday black blanket blood blue board boat body bone book"
    " bottle bottom bowl box boy branch brave bread bridge bright bring brother brown brush "
    "build butter button cake camel camera candle car card carrot castle cat chair chalk cheese"
    " cherry chicken child church circle city class clean clock cloud coat coffee coin cold "
    "color cook copper corn corner cotton count country cousin cow cream crown cup curtain "
    "dance danger daughter day deep deer desk doctor dog door dragon dream dress drink driver "
    "drop duck dust eagle ear earth east easy edge egg eight elbow elephant engine evening eye "
    "face fall family farm father feather field finger fire fish flag floor flour flower forest"
    " fork fox friend frog front fruit garden gate ghost giant gift girl glass glove goat gold "
    "grape grass great green ground guest guitar hair hammer hand happy harbor hat heart heavy "
    "hen hill holiday home honey horse hospital hotel hour house hunter ice idea insect iron "
    "island jacket jar jelly jewel journey juice jungle kettle key king kitchen kite kitten "
    "knee knife ladder lake lamp language laugh lazy leaf leather lemon letter library light "
    "lion lip little long lunch machine magic map market meadow meat memory metal milk minute "
    "mirror money monkey month moon morning mother mountain mouse mouth museum music nail name "
    "narrow needle nest night noise north nose number nurse ocean office onion orange oven owl "
    "page paint palace paper parent park party pasta peach pear pen pencil people pepper piano "
    "picture pilot pink pirate planet plant plate pocket poem poet pond pony potato prince "
    "purple puzzle queen question quiet rabbit radio rain rainbow red rice ring river road "
    "robot rock roof room rope rose round ruler sailor salad salt sand school science sea seat "
    "secret seed shadow sheep shell ship shirt shoe shop silver singer sister sky sleep smile "
    "smoke snake snow soap sock soldier song soup south space spider spoon spring square "
    "squirrel stable stair star station stone storm story straw street sugar summer sun sweet "
    "table tail tailor tea teacher teeth temple tent thumb thunder tiger time toast today "
    "tomato tongue tooth towel tower town toy train travel tree triangle truck tulip turtle "
    "umbrella uncle valley vase village violin voice wagon wall watch water weather wheel "
    "whistle white wind window wing winter wolf wood wool word world writer yard year yellow "
    "young zebra zero"
)
