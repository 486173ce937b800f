"""`trio-mcp check URL`: what a cluster does with clients of every kind, and what to change.

survey (visitors → evidence) ─▶ findings ─▶ report
"""
