/* A thousand lines, each by a write of its own. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char line[64];
    if (write(1, "Content-Type: text/plain\n\n", 26) != 26)
        return 1;
    for (int number = 1; number <= 1000; number++) {
        int length = snprintf(line, sizeof line, "This is line %d of a thousand.\n", number);
        if (write(1, line, length) != length)
            return 1;
    }
    return 0;
}
