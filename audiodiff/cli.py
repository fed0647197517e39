"""The command line: `audiodiff train | generate | evaluate | mel | demo`, and `generate-wav`."""
