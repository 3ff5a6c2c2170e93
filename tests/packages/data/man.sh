# A page of a manual.
mkdir -p /usr/share/man/man1
printf '.TH DEMO 1 "December 2025" Packages "User Commands"\n.SH NAME\ndemo \\- show what is shown\n.SH SEE ALSO\n.BR ls (1),\n.UR http://example.org/\n.UE\n' >/usr/share/man/man1/demo.1
