//! What a program gets to know of a request (RFC 3875 §4.1).

use crate::cases;
use crate::common::Server;

cases![gateway_interface_is_cgi_1_1, a_computed_variable_wins_over_the_routes_env, the_images_own_env_stays,];

/// The value of a variable, as the probe has it; `None` where it is unset.
#[track_caller]
fn variable(server: &Server, name: &str) -> Option<String> {
    let response = server.get(&format!("/p?text&env={name}"));
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().trim_end().strip_prefix('=').map(str::to_owned)
}

fn gateway_interface_is_cgi_1_1(server: &Server) {
    assert_eq!(variable(server, "GATEWAY_INTERFACE").as_deref(), Some("CGI/1.1"));
}

fn a_computed_variable_wins_over_the_routes_env(server: &Server) {
    assert_eq!(variable(server, "REQUEST_METHOD").as_deref(), Some("GET"));
}

fn the_images_own_env_stays(server: &Server) {
    assert_eq!(variable(server, "FROM_IMAGE").as_deref(), Some("yes"));
}
