/*
 * Shows what a CGI program is given: environment, arguments, working directory, the length of its input.
 * A page, or with the query string "plain" lines of text: NAME=value, sorted.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Everything shown comes from a client or may do so: none of it may become markup. */
static void escaped(const char *text, size_t length) {
    for (; length > 0; text++, length--)
        switch (*text) {
        case '<': fputs("&lt;", stdout); break;
        case '>': fputs("&gt;", stdout); break;
        case '&': fputs("&amp;", stdout); break;
        case '"': fputs("&quot;", stdout); break;
        default: putchar(*text);
        }
}

static void row(const char *name, size_t name_length, const char *value) {
    fputs("<tr><th scope=\"row\">", stdout);
    escaped(name, name_length);
    fputs("</th><td>", stdout);
    escaped(value, strlen(value));
    fputs("</td></tr>\n", stdout);
}

static void numbered_row(const char *name, long long number) {
    char value[24];
    snprintf(value, sizeof value, "%lld", number);
    row(name, strlen(name), value);
}

/* Reads standard input to its end. */
static long long input_length(void) {
    static char buffer[65536];
    long long length = 0;
    ssize_t count;
    while ((count = read(STDIN_FILENO, buffer, sizeof buffer)) > 0)
        length += count;
    return length;
}

int main(int argc, char **argv) {
    const char *query = getenv("QUERY_STRING");
    bool plain = query && strcmp(query, "plain") == 0;
    long long length = input_length();
    char *cwd = getcwd(NULL, 0);
    size_t count = 0;

    while (environ[count])
        count++;
    qsort(environ, count, sizeof *environ, by_name);

    if (plain) {
        fputs("Content-Type: text/plain; charset=utf-8\n\n", stdout);
        for (char **entry = environ; *entry; entry++)
            puts(*entry);
        for (int i = 0; i < argc; i++)
            printf("argv[%d]: %s\n", i, argv[i]);
        printf("cwd: %s\nstdin: %lld bytes\n", cwd ? cwd : "?", length);
        return 0;
    }

    fputs("Content-Type: text/html; charset=utf-8\n\n"
          "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>The CGI environment</title>\n"
          "<style>\n"
          "  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }\n"
          "  table { border-collapse: collapse; width: 100% }\n"
          "  th, td { text-align: left; vertical-align: top; padding: .2rem .6rem; border-bottom: 1px solid #ddd }\n"
          "  th { white-space: nowrap } td { font-family: ui-monospace, monospace; overflow-wrap: anywhere }\n"
          "</style>\n<h1>The CGI environment</h1>\n<table>\n",
          stdout);
    for (char **entry = environ; *entry; entry++) {
        size_t name_length = strcspn(*entry, "=");
        row(*entry, name_length, (*entry)[name_length] ? *entry + name_length + 1 : "");
    }
    fputs("</table>\n<h2>The process</h2>\n<table>\n", stdout);
    for (int i = 0; i < argc; i++) {
        char name[32];
        int name_length = snprintf(name, sizeof name, "argument %d", i);
        row(name, (size_t)name_length, argv[i]);
    }
    row("working directory", 17, cwd ? cwd : "?");
    numbered_row("bytes on standard input", length);
    numbered_row("user", getuid());
    numbered_row("group", getgid());
    fputs("</table>\n</html>\n", stdout);
    return 0;
}
