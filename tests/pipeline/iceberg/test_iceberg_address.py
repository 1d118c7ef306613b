"""How a user names a table: without anything that says where it is or who may use it."""

import pytest

from pipeline.config import ScoreConfig
from pipeline.errors import InputError
from pipeline.iceberg.address import TableAddress


def test_a_catalog_and_a_table() -> None:
    """The table of the scores as given, that of the quarantine beside it; namespaces may be nested."""
    address = TableAddress.parse("iceberg://night-lake/factory.line_3.scores")
    assert (address.catalog, address.scores) == ("night-lake", "factory.line_3.scores")
    assert address.quarantine == "factory.line_3.scores_quarantine"
    assert address.uri(address.quarantine) == "iceberg://night-lake/factory.line_3.scores_quarantine"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "scores",
        "lake/ns.scores",
        "iceberg://lake",
        "iceberg://lake/scores",  # no namespace
        "iceberg:///ns.scores",
        "iceberg://lake/ns..scores",
        "iceberg://lake/ns.scores/more",
        "iceberg://lake/../ns.scores",
        "iceberg://lake/ns.scores?token=1",
        "iceberg://lake/ns.sco'res",
        "iceberg://lake/ns.scores\n",
        "s3://lake/ns.scores",
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    """Wherever it is given, with what was expected."""
    with pytest.raises(InputError, match=r"expected iceberg://CATALOG/namespace\.table"):
        ScoreConfig(inputs=("in",), table=uri)


def test_credentials_are_refused_unsaid() -> None:
    """As in any other URI."""
    with pytest.raises(InputError, match="carries credentials") as caught:
        TableAddress.parse("iceberg://user:secret@lake/ns.scores")
    assert "secret" not in str(caught.value)


def test_the_table_of_a_quarantine_is_no_table_of_scores() -> None:
    """Or its own quarantine would be scores_quarantine_quarantine."""
    with pytest.raises(InputError, match="name of a quarantine"):
        TableAddress.parse("iceberg://lake/ns.scores_quarantine")
