/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* With REPLAY: a main that runs the files of its arguments, without libFuzzer. */
#ifdef REPLAY
int main(int argc, char **argv)
{
    static uint8_t data[1 << 16];

    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");

        MUST(file != NULL);
        LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
        fclose(file);
    }
    return 0;
}
#endif
