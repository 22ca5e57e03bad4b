"""Photographs: fetch them politely from other people's servers, bring them to one form, keep a ledger of every fate."""
