"""The figures' style and what several figures are drawn with."""
