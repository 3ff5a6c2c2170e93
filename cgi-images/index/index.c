/*
 * The demo's front page: /index.html, in which every @BASE@ becomes the address that the visitor used, so
 * that the commands on the page can be copied. Any other path is a 404.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

int main(void) {
    static char page[65536];
    const char *path = variable("PATH_INFO", "/");

    if (strcmp(path, "/") != 0 && strcmp(path, "/index.html") != 0) {
        puts("Status: 404 Not Found\nContent-Type: text/html; charset=utf-8\n\n"
             "<!DOCTYPE html>\n<title>404 Not Found</title>\n"
             "<h1>Nothing here</h1>\n<p><a href=\"/\">All examples</a>");
        return 0;
    }

    /* The client wrote Host: only what can stand in a host and a port may reach the page or a shell. */
    const char *host = variable("HTTP_HOST", "127.0.0.1:8080");
    if (host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]")])
        host = "127.0.0.1:8080";

    FILE *file = fopen("/index.html", "r");
    if (!file) {
        perror("/index.html");
        return 1;
    }
    page[fread(page, 1, sizeof page - 1, file)] = '\0';

    fputs("Content-Type: text/html; charset=utf-8\n\n", stdout);
    char *rest = page, *mark;
    while ((mark = strstr(rest, "@BASE@"))) {
        fwrite(rest, 1, (size_t)(mark - rest), stdout);
        printf("%s://%s", variable("REQUEST_SCHEME", "http"), host);
        rest = mark + strlen("@BASE@");
    }
    fputs(rest, stdout);
    return 0;
}
