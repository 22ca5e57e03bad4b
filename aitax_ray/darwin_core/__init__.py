"""Darwin Core Archives read: unpacked, described, parsed, their tables linked."""
