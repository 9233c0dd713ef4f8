-- One allowed network of a job class.
INSERT INTO policy_allow (job_class, cidr, first_ip_value, last_ip_value, ports, executables)
VALUES ($1, $2, ip_value($3, $4), ip_value($5, $6), $7, $8);
