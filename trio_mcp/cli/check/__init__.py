"""`trio-mcp check URL`: what a cluster does with clients of every kind, and what to change.

survey (clients → evidence) ─▶ findings ─▶ report in command
"""
