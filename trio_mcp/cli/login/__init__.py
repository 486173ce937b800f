"""`trio-mcp login`, `logout`, and the tokens that other commands send.

discovery (where to log in) ─▶ flow: registration ─▶ browser ─▶ callback ─▶ token request ─▶ token_store ─▶ credentials
"""
