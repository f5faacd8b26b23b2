"""Which statements in which policies let somebody read what lies under a prefix, and nothing else. Pure.

1. `principal`: who is to read, and how policies name them.
2. `statements`: one grant each, as IAM's grammar has it.
3. `documents`: which policies need them, by the accounts that caller, key and bucket are in.
4. `terraform`: the same, written for Terraform.
"""
