from drawnet.cli import main

main()
