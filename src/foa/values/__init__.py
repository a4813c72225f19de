"""Pure values that everyone passes around: no I/O, no asyncio, no logging."""
