# What a running Nagios leaves for its CGIs: the objects that it knows, and how they are. `ada` is contact of one host only.
mkdir /srv/nagios
sed -e 's/^use_authentication=.*/use_authentication=1/' /etc/nagios4/cgi.cfg >/srv/nagios/cgi.cfg
cat >/var/lib/nagios4/objects.cache <<'END'
define timeperiod {
	timeperiod_name	24x7
	alias	Always
	monday	00:00-24:00
	}
define command {
	command_name	check
	command_line	/bin/true
	}
define contact {
	contact_name	nagiosadmin
	service_notification_period	24x7
	host_notification_period	24x7
	service_notification_options	r,w,u,c
	host_notification_options	r,d,u
	service_notification_commands	check
	host_notification_commands	check
	}
define contact {
	contact_name	ada
	service_notification_period	24x7
	host_notification_period	24x7
	service_notification_options	r,w,u,c
	host_notification_options	r,d,u
	service_notification_commands	check
	host_notification_commands	check
	}
END
host() { # NAME CONTACT
    cat >>/var/lib/nagios4/objects.cache <<END
define host {
	host_name	$1
	alias	The host $1
	address	192.0.2.1
	check_period	24x7
	check_command	check
	contacts	$2
	notification_period	24x7
	initial_state	o
	check_interval	5.000000
	retry_interval	1.000000
	max_check_attempts	3
	active_checks_enabled	1
	passive_checks_enabled	1
	obsess	1
	event_handler_enabled	1
	low_flap_threshold	0.000000
	high_flap_threshold	0.000000
	flap_detection_enabled	1
	flap_detection_options	a
	freshness_threshold	0
	check_freshness	0
	notification_options	a
	notifications_enabled	1
	notification_interval	30.000000
	first_notification_delay	0.000000
	stalking_options	n
	process_perf_data	1
	retain_status_information	1
	retain_nonstatus_information	1
	}
define service {
	host_name	$1
	service_description	HTTP
	check_period	24x7
	check_command	check
	contacts	$2
	notification_period	24x7
	initial_state	o
	importance	0
	check_interval	5.000000
	retry_interval	1.000000
	max_check_attempts	3
	active_checks_enabled	1
	passive_checks_enabled	1
	notification_options	a
	notifications_enabled	1
	notification_interval	30.000000
	}
END
}
host web ada
host mail nagiosadmin
now=1767323000
cat >/var/lib/nagios4/status.dat <<END
info {
	created=$now
	version=4.4.6
	}
programstatus {
	nagios_pid=1
	daemon_mode=1
	program_start=1767300000
	enable_notifications=1
	active_service_checks_enabled=1
	passive_service_checks_enabled=1
	active_host_checks_enabled=1
	enable_event_handlers=1
	check_external_commands=1
	}
END
for host in web mail; do
    cat >>/var/lib/nagios4/status.dat <<END
hoststatus {
	host_name=$host
	has_been_checked=1
	current_state=0
	plugin_output=PING OK
	last_check=1767322900
	last_state_change=1767300100
	current_attempt=1
	max_attempts=3
	state_type=1
	checks_enabled=1
	active_checks_enabled=1
	notifications_enabled=1
	}
servicestatus {
	host_name=$host
	service_description=HTTP
	has_been_checked=1
	current_state=2
	plugin_output=Connection <refused> & gone
	last_check=1767322910
	last_state_change=1767310000
	current_attempt=3
	max_attempts=3
	state_type=1
	checks_enabled=1
	active_checks_enabled=1
	notifications_enabled=1
	}
END
done
for user in ada nagiosadmin; do
    echo "$user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
done >/srv/nagios/users
