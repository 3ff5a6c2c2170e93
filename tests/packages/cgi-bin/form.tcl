#!/usr/bin/tclsh
# A form, a cookie and a file, by Tcl's ncgi.
package require ncgi
package require html

ncgi::parse
if {[ncgi::value go] ne ""} {
    ncgi::setCookie -name seen -value [ncgi::value go] -path /
    ncgi::redirect [ncgi::value go]
    exit
}
ncgi::header "text/html; charset=utf-8"
puts "<title>Form</title>"
foreach name [lsort [ncgi::names]] {
    puts "<p>[html::html_entities $name]: [html::html_entities [ncgi::value $name]]</p>"
}
puts "<p>[html::html_entities [ncgi::cookie seen]]</p>"
