"""Which tags of a file and its tracks go on to the output, and how a container spells them."""

from collections.abc import Mapping

TECHNICAL_TAGS = {"encoder", "duration", "major_brand", "minor_version", "compatible_brands"} | {
    "vendor_id",
    "timecode",
}
STATISTICS = ("bps", "number_of_", "_statistics", "duration-")
"""How tags begin that tell of the coded data itself."""
MP4_TAGS = {"title", "artist", "album", "comment", "genre", "date", "copyright", "description"} | {
    "composer",
    "album_artist",
    "track",
    "lyrics",
    "synopsis",
    "show",
    "episode_id",
    "network",
    "grouping",
    "keywords",
    "location",
    "creation_time",
}
MOV_LANGUAGES = {"deu": "ger", "nld": "dut", "swe": "sve", "ell": "gre", "isl": "ice"} | {
    "fre": "fra",
    "zho": "chi",
    "fas": "per",
    "ron": "rum",
    "slk": "slo",
    "ces": "cze",
}  # QuickTime's own codes, as FFmpeg's table spells them


def kept_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that tell of the work, not of how it was coded."""
    kept = (name for name in metadata if name.lower() not in TECHNICAL_TAGS)
    return {name: metadata[name] for name in kept if not name.lower().startswith(STATISTICS)}


def track_tags(metadata: Mapping[str, str], suffix: str) -> dict[str, str]:
    """Return a track's tags as a file with that suffix holds them."""
    tags = kept_tags(metadata)
    if suffix == ".mov" and tags.get("language") in MOV_LANGUAGES:
        tags["language"] = MOV_LANGUAGES[tags["language"]]
    return tags
