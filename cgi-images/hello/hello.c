/* The smallest useful CGI program: a header block, a blank line, a body. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const char *greeting = getenv("GREETING");

    printf("Content-Type: text/plain; charset=utf-8\n\n");
    printf("%s\n", greeting && *greeting ? greeting : "Hello from a container!");
    return 0;
}
