-- How far back the next rule may look.
SET VARIABLE window_start = $1;
