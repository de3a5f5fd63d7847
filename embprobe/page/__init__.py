"""The page: HTML, charts and pictures, all in one file; nothing in it is fetched from anywhere."""
