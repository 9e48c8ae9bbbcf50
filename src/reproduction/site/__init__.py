"""The report: everything that the checkout has measured as one page that needs neither a server nor a network.

build.py       what `mlegfn report` calls
gather.py      results of every scale → what the template shows
sections.py    which figures and tables there are, what the paper shows, which claims belong to them
artifacts.py   files that stages left, and how they are read
records.py     how a stage was run: dvc.lock and the record of its run
verdicts.py    verdict files → rows of the table of verdicts
readings.py    verdicts in sentences
alts.py        what a figure shows, for those who cannot see it
charts.py      interactive charts (Vega-Lite, by altair); vegalite.py has their specification
frames.py      Figure 3's trajectories for the slider
markup.py      captions and tables in Markdown → HTML
summary.py     results/summary.json, which `dvc metrics` shows
readme.py      what README and docs quote of the results
"""
