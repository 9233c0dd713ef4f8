-- Takes the signals of a range of numbers to work.
INSERT INTO new_signals
SELECT *
FROM hunt.signals
WHERE number > $1 AND number <= $2;
