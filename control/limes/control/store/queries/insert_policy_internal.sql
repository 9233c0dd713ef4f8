-- One internal network.
INSERT INTO policy_internal (cidr, first_ip_value, last_ip_value)
VALUES ($1, ip_value($2, $3), ip_value($4, $5));
