import click
import click.testing
import pytest

from benchmark.cli.common import Commands, as_typed
from benchmark.cli.main import main
from headposeplus.errors import HeadposeError


@pytest.mark.parametrize(
    ("text", "words", "typed"),
    [
        ("lower `batch`, or choose another `out`", ["benchmark"], "lower --batch, or choose another --out"),
        ("choose another `out`", ["miniature"], "choose another OUT"),
        ("raise `highest_lambda`", ["benchmark", "--out", "x"], "raise --lambda"),
        ("`json_file` is no folder", ["verify"], "--json is no folder"),
        ("`A`: `nothing` of `hpp verify`", ["verify"], "`A`: `nothing` of `hpp verify`"),
    ],
)
def test_parameters_are_told_as_they_are_typed(text, words, typed):
    assert as_typed(text, main, words) == typed


def test_an_error_of_the_library_is_one_line_with_flags(hpp):
    @click.group(cls=Commands)
    def group():
        """A group."""

    @group.command()
    @click.option("--largest", "most")
    def fail(most):
        raise HeadposeError("a.csv: 7 rows;\n  raise `most`")

    result = click.testing.CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.output) == (1, "Error: a.csv: 7 rows; raise --largest\n")
