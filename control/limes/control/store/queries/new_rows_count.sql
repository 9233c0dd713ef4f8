-- How many rows of a kind are at work, and when the oldest happened.
SELECT count(*), min(event_time)
FROM new_{kind};
