"""What tests of figures look at: a drawn figure, its markers, and whether its letters collide or stick out."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from certlip import figures
from certlip.figures import style


def drawn(name, rows):
    """The figure of some rows, and the renderer that drew it."""
    with style.applied():
        figure = figures.load(name).draw(rows)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure, canvas.get_renderer()


def markers(axes):
    """(x, y, face colour, edge colour, marker) of every marker, lines left out."""
    lines = [line for line in axes.get_lines() if line.get_linestyle() in ("None", "")]
    return [
        (x, y, to_hex(line.get_markerfacecolor()), to_hex(line.get_markeredgecolor()), line.get_marker())
        for line in lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if np.isfinite(y)
    ]


def assert_fits_one_column(figure, renderer):
    """It is one column wide, nothing sticks out, and no two texts cover each other."""
    assert figure.get_figwidth() == style.COLUMN_WIDTH
    box = figure.get_tightbbox(renderer)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y1 <= figure.get_figheight()
    texts = [t for axes in figure.axes for t in [axes.title, axes.xaxis.label, axes.yaxis.label, *_tick_labels(axes)]]
    texts += [t for legend in figure.legends for t in [legend.get_title(), *legend.get_texts()]]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text() and t.get_visible()]
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), f"{one!r} covers {other!r}"


def _tick_labels(axes):
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        for tick in axis.get_major_ticks():
            if tick.label1.get_visible() and min(limits) <= tick.get_loc() <= max(limits):
                yield tick.label1
