"""Worker processes that carry out attempts, where one event loop is not enough.

    parent    list ─ diff ─ line ─ Fetcher ── Crew ──┐ attempts, credentials, routes
                                                     │ what was received, reached, ended
    workers                                    Lanes ┴ Writer      one event loop each, no SDK, no decisions

The parent decides everything, and the budgets are the run's: lanes, memory and bandwidth are shared out. A worker
owns nothing that is not on disk or told: when one dies, what it had been handed goes back in line, and another takes
its place.
"""
