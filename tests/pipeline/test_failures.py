"""What Ray, stores and their clients raise, as one error that says the way on; our own mistakes stay as they are."""

import pytest
from botocore.exceptions import EndpointConnectionError
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from pipeline.errors import InputError, RunError
from pipeline.failures import as_run_errors


@pytest.mark.parametrize(
    "error",
    [
        OSError("disk full"),
        RayError("disk full"),
        ExecutionTimeoutError("disk full"),  # nothing has moved for long
        EndpointConnectionError(endpoint_url="disk full"),
    ],
)
def test_the_world_becomes_a_run_error(error: Exception) -> None:
    """Whichever root its class has."""
    with pytest.raises(RunError, match=r"the run stopped: .*disk full.*\. Again"), as_run_errors("Again"):
        raise error


def test_no_signature_in_the_message() -> None:
    """Clients put whole addresses into their texts."""
    with pytest.raises(RunError) as told, as_run_errors("Again"):
        raise OSError("403, url='https://h/a.jpg?X-Amz-Signature=SECRET'")
    assert "SECRET" not in str(told.value)


def test_no_signature_of_what_ray_sent_home() -> None:
    """Ray sends errors as text: a traceback, whose last line is the client's."""
    home = RayError("ray::read()\nTraceback\nInvalidURL: https://u:SECRET@h/a.jpg?sig=SECRET\n")
    with pytest.raises(RunError, match=r"InvalidURL: https://h/a\.jpg") as told, as_run_errors("Again"):
        raise home
    assert "SECRET" not in str(told.value)


def test_it_begins_with_what_stopped() -> None:
    """Looking after runs is no run."""
    with (
        pytest.raises(RunError, match=r"^list stopped: OSError: down\. Again$"),
        as_run_errors("Again", what="list stopped"),
    ):
        raise OSError("down")


@pytest.mark.parametrize("error", [InputError("no such input"), ZeroDivisionError("ours")])
def test_other_errors_pass(error: Exception) -> None:
    """Errors for the user have their words already; a mistake of ours keeps its traceback."""
    with pytest.raises(type(error), match=str(error)), as_run_errors("Again"):
        raise error
