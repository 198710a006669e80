package main

// Our image holds programs and nothing else, so the public certificate
// authorities come with the program. They are used only where the machine has
// none: files mounted under /etc/ssl/certs go before them.
import _ "golang.org/x/crypto/x509roots/fallback"
