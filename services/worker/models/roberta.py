"""RoBERTa and XLM-RoBERTa: BERT with other positions and another head."""

from typing import ClassVar

from octavo.services.worker.models.bert import BertEncoder


class RobertaEncoder(BertEncoder):
    PREFIX: ClassVar[str] = "roberta."
    HEAD: ClassVar[tuple[str, str]] = ("classifier.dense", "classifier.out_proj")
