# SPDX-License-Identifier: BSD-2-Clause
"""A picture of the ratios: a bar a row, a mark where it should end, a line at 1."""
from xml.sax.saxutils import escape

LABEL, WIDTH, STEP, TOP = 260, 420, 22, 34


def plot(figures):
    """figures: (name, bar, ratio). The text of an SVG image."""
    scale = WIDTH / max([1.1] + [ratio for _, _, ratio in figures])
    height = TOP + STEP * len(figures) + 10
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
             'font-family="sans-serif" font-size="12">' % (LABEL + WIDTH + 60, height),
             '<rect width="100%" height="100%" fill="white"/>',
             '<text x="8" y="18">smd against the peer, in turn: under 1 is faster; '
             'the mark is the bar to reach</text>']
    for i, (name, bar, ratio) in enumerate(figures):
        y = TOP + STEP * i
        parts += ['<text x="%d" y="%d" text-anchor="end">%s</text>'
                  % (LABEL - 8, y + 13, escape(name)),
                  '<rect x="%d" y="%d" width="%.1f" height="14" fill="%s"/>'
                  % (LABEL, y + 2, ratio * scale, "#2f7d4f" if ratio <= bar else "#c07a2c"),
                  '<rect x="%.1f" y="%d" width="2" height="18" fill="black"/>'
                  % (LABEL + bar * scale, y),
                  '<text x="%.1f" y="%d">%.2f</text>'
                  % (LABEL + max(ratio, bar) * scale + 6, y + 13, ratio)]
    one = LABEL + scale
    parts += ['<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#888" stroke-dasharray="3"/>'
              % (one, TOP - 4, one, height - 6), "</svg>"]
    return "\n".join(parts) + "\n"
