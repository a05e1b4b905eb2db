"""`octavo chat`: a conversation with a running server."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from octavo.services.client import talk
from octavo.services.client.talk import Talker
from octavo.shared.arguments import Parser, utf8

PATH = "/v1/chat/completions"
HELP = """\
/reset          begin anew; the system prompt stays
/system [TEXT]  set the system prompt, or drop it, and begin anew
/exit           leave; so does Ctrl-D. Ctrl-C stops an answer"""


def make_parser() -> Parser:
    parser = talk.make_parser(
        "chat", "Talk to a running server. /help lists what else may be typed."
    )
    parser.add_argument(
        "--system-prompt", type=utf8, metavar="TEXT", help="What the model is told first."
    )
    return parser


def chat(argv: list[str], environ: Mapping[str, str]) -> int:
    """0, or 1 where an error came instead of an answer. Raises ConfigError without a server."""
    args = make_parser().parse_args(argv)

    def begin(talker: Talker) -> Callable[[str], bool]:
        conversation = Conversation(talker, args.system_prompt)
        return conversation.say if args.quick is not None else conversation.hear

    return talk.converse(args, environ, begin)


class Conversation:
    def __init__(self, talker: Talker, system: str | None) -> None:
        self._talker = talker
        self._system = system
        self._messages: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        told = {"role": "system", "content": self._system or ""}
        self._messages = [told] if self._system else []

    def hear(self, line: str) -> bool:
        """A command, or something to answer; False: the user leaves."""
        word, _, rest = line.strip().partition(" ")
        match word:
            case "/exit" | "/quit" | "/bye":
                return False
            case "/reset":
                self.reset()
                self._talker.note("begun anew")
            case "/system":
                self._system = rest.strip() or None
                self.reset()
                self._talker.note("begun anew" + (", with it" if rest else ", without one"))
            case "/help":
                self._talker.note(HELP)
            case _ if word.startswith("/") and word[1:].isalpha():
                self._talker.note(f"{word}? /help lists what there is")
            case _:
                return self.say(line)
        return True

    def say(self, text: str) -> bool:
        """What was not answered is forgotten: the model would see two questions in a row."""
        asked = [*self._messages, {"role": "user", "content": text}]
        said = self._talker.ask(PATH, {"messages": asked})
        if said:
            self._messages = [*asked, {"role": "assistant", "content": said}]
        return True
