// toolbox is what containers of tests run: each subcommand behaves in one way, and there is no shell.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const usage = `usage: toolbox serve [PORT] | sleep SECONDS | exit N | print TEXT [N] | get URL [TOKEN_FILE CA_FILE]
       | trap-term N | ignore-term | env NAME | tcp HOST:PORT | write FILE TEXT | cat FILE`

var commands = map[string]func(args []string) error{
	"serve": serve, "sleep": sleep, "exit": exit, "print": printText, "get": get, "trap-term": trapTerm,
	"ignore-term": ignoreTerm, "env": env, "tcp": tcp, "write": write, "cat": cat,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(64)
	}
	defer func() {
		if recover() != nil { // an argument is missing
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(64)
		}
	}()
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	port := "8080"
	if len(args) > 0 {
		port = args[0]
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	http.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getenv(r.URL.RawQuery))
	})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "toolbox_answer 42") })
	fmt.Println("listening on", port)
	return (&http.Server{Addr: ":" + port, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe()
}

// sleep ends at SIGTERM by that signal: as PID 1 it would ignore the signal's default action.
func sleep(args []string) error {
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return err
	}
	select {
	case <-term():
		os.Exit(143)
	case <-time.After(time.Duration(seconds * float64(time.Second))):
	}
	return nil
}

func exit(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err == nil {
		os.Exit(code)
	}
	return err
}

func printText(args []string) error {
	fmt.Println(args[0])
	if len(args) > 1 {
		return exit(args[1:])
	}
	return nil
}

func get(args []string) error {
	request, err := http.NewRequest(http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 10 * time.Second}
	if len(args) > 1 {
		token, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		pem, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		request.Header.Set("Authorization", "Bearer "+string(token))
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	fmt.Println(response.StatusCode)
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func trapTerm(args []string) error {
	received := term()
	fmt.Println("ready")
	<-received
	fmt.Println("got TERM")
	return exit(args)
}

func ignoreTerm([]string) error {
	received := term()
	fmt.Println("ready")
	for range received {
		fmt.Println("ignored TERM")
	}
	return nil
}

func env(args []string) error {
	value, found := os.LookupEnv(args[0])
	if !found {
		return fmt.Errorf("no variable %s", args[0])
	}
	fmt.Println(value)
	return nil
}

func tcp(args []string) error {
	connection, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("connected to", connection.RemoteAddr())
	return connection.Close()
}

func write(args []string) error {
	return os.WriteFile(args[0], []byte(args[1]), 0o644)
}

func cat(args []string) error {
	text, err := os.ReadFile(args[0])
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	return err
}

func term() <-chan os.Signal {
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGTERM)
	return received
}
