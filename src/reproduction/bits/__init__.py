"""The planar problems as 32 bits, beside EB-GFN."""
