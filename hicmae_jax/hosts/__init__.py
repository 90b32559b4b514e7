"""The processes of one run: they meet, agree, and notice each other's end."""
