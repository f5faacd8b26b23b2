"""Why somebody may not read what lies under a prefix, and what would have to change. Pure.

1. `facts`: what was looked at, and what was answered.
2. `conclusion`: the links of the chain from credentials to bytes, each ok, refused or not seen.
3. `cures`: from AWS's refusal to the statements that are missing, or the Denies to lift, and in which policy.
4. `findings`: what all that says.
"""
