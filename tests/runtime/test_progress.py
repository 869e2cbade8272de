"""What is shown while training: in a notebook one piece of HTML that is replaced; nothing where nobody looks."""

import sys
import types

import pytest

from tapeless.runtime import progress


class ZMQInteractiveShell:
    """Named as the shell of notebooks is."""


@pytest.fixture
def notebook(monkeypatch):
    """A stand-in for IPython in a notebook; all that was shown."""
    shown = []
    handle = types.SimpleNamespace(update=lambda html: shown.append(html.data))

    def display(html, display_id):
        assert display_id
        shown.append(html.data)
        return handle

    package = types.ModuleType("IPython")
    package.get_ipython = ZMQInteractiveShell
    inner = types.ModuleType("IPython.display")
    inner.HTML = lambda text: types.SimpleNamespace(data=text)
    inner.display = display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return shown


def test_a_notebook_shows_a_bar(notebook):
    with progress.reporter(None, 2, 100) as report:
        assert isinstance(report, progress.NotebookBar)
        report.resumed(1, 0)
        report.advance(100)
        report.epoch(2, {"loss": 0.25, "validation_loss": 0.5})
    assert notebook[0].startswith('<div><progress max="200" value="0"></progress> <code>epoch 0/2')
    assert 'value="200"' in notebook[-1] and "epoch 2/2  loss 0.25  val. loss 0.5" in notebook[-1]
    assert "/s" in notebook[-1] and "0 s left" in notebook[-1]


def test_nothing_is_shown_away_from_a_terminal():
    with progress.reporter(None, 2, 100) as report:
        assert type(report) is progress.Reporter
    assert isinstance(progress.reporter(True, 2, 100), progress.Bar)
