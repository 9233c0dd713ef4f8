-- Addresses travel as two 64-bit halves in network order, IPv4 as ::ffff:a.b.c.d.

-- The address as one number: ranges compare as numbers do.
CREATE OR REPLACE MACRO ip_value(hi, lo) AS
    (hi::UHUGEINT << 64) | lo::UHUGEINT;

-- Dotted quad of the low 32 bits.
CREATE OR REPLACE MACRO ip_v4_text(lo) AS
    format('{}.{}.{}.{}', (lo >> 24) & 255, (lo >> 16) & 255, (lo >> 8) & 255, lo & 255);

-- The eight groups in hexadecimal, nothing shortened.
CREATE OR REPLACE MACRO ip_v6_groups(hi, lo) AS
    format('{:x}:{:x}:{:x}:{:x}:{:x}:{:x}:{:x}:{:x}',
        (hi >> 48) & 65535, (hi >> 32) & 65535, (hi >> 16) & 65535, hi & 65535,
        (lo >> 48) & 65535, (lo >> 32) & 65535, (lo >> 16) & 65535, lo & 65535);

-- RFC 5952: the longest run of two or more zero groups becomes '::', the first one of equal runs.
CREATE OR REPLACE MACRO ip_v6_short(groups) AS
    CASE
        WHEN NOT contains(groups, '0:0') THEN groups
        WHEN groups = '0:0:0:0:0:0:0:0' THEN '::'
        WHEN regexp_matches(groups, '(^|:)0(:0){6}(:|$)') THEN regexp_replace(groups, '(^|:)0(:0){6}(:|$)', '::')
        WHEN regexp_matches(groups, '(^|:)0(:0){5}(:|$)') THEN regexp_replace(groups, '(^|:)0(:0){5}(:|$)', '::')
        WHEN regexp_matches(groups, '(^|:)0(:0){4}(:|$)') THEN regexp_replace(groups, '(^|:)0(:0){4}(:|$)', '::')
        WHEN regexp_matches(groups, '(^|:)0(:0){3}(:|$)') THEN regexp_replace(groups, '(^|:)0(:0){3}(:|$)', '::')
        WHEN regexp_matches(groups, '(^|:)0(:0){2}(:|$)') THEN regexp_replace(groups, '(^|:)0(:0){2}(:|$)', '::')
        WHEN regexp_matches(groups, '(^|:)0(:0){1}(:|$)') THEN regexp_replace(groups, '(^|:)0(:0){1}(:|$)', '::')
        ELSE groups
    END;

-- The address as people write it: IPv4 as a dotted quad, IPv6 in its canonical form. The lambda
-- names the groups once: as an argument they would be written out 17 times in every plan.
CREATE OR REPLACE MACRO ip_text(hi, lo) AS
    CASE
        WHEN hi = 0 AND (lo >> 32) = 65535 THEN ip_v4_text(lo)
        ELSE list_transform([ip_v6_groups(hi, lo)], lambda g: ip_v6_short(g))[1]
    END;
