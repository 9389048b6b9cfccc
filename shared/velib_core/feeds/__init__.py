"""Documents of the bike-share feed and of the weather in; typed rows and defects out."""
