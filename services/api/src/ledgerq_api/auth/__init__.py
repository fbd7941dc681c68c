"""Who may call what: keys, their scopes, and the gate that every request passes."""
