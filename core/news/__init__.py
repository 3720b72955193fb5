"""Headlines, their tone, and what of it lasts per instrument."""

from core.news.aggregate import SentimentAggregator
from core.news.feed import Headline, HeadlineFeed, RssHeadlines, SampleHeadlines
from core.news.lexicon import score

__all__ = ["Headline", "HeadlineFeed", "RssHeadlines", "SampleHeadlines", "SentimentAggregator", "score"]
