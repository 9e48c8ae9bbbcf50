"""The report: everything that the checkout has measured as one page that needs neither a server nor a network.

build.py     what `mlegfn report` calls
gather.py    results of every scale → what the template shows
figures.py   which figures there are, what the paper's show, which claims belong to them
readings.py  verdicts in sentences
alts.py      what a figure shows, for those who cannot see it
charts.py    interactive charts (Vega-Lite, by altair)
frames.py    Figure 3's trajectories for the slider
records.py   the provenance of a stage
markup.py    captions and tables in Markdown → HTML
"""
