// A client and a server of the web, by Go's own library.
//
//	goweb get URL MARK [h2]          asks for URL/1, URL/2 and, by POST, URL/3
//	goweb serve PORT CERTIFICATE     answers with what it got
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	switch os.Args[1] {
	case "get":
		get(os.Args[2], os.Args[3], len(os.Args) > 4)
	case "serve":
		serve("127.0.0.1:"+os.Args[2], os.Args[3])
	}
}

func get(url, mark string, http2 bool) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2}
	client := &http.Client{Transport: transport}
	ask := func(method, page, body string) {
		request, err := http.NewRequest(method, url+"/"+page, strings.NewReader(body))
		check(err)
		response, err := client.Do(request)
		check(err)
		_, err = io.Copy(ioutil.Discard, response.Body)
		check(err)
		check(response.Body.Close())
	}
	ask("GET", "1", "")
	ask("GET", "2", "")
	ask("POST", "3", "body from "+mark)
	transport.CloseIdleConnections()
}

func serve(address, certificate string) {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, err := ioutil.ReadAll(r.Body)
		check(err)
		answer := bytes.Repeat([]byte(string(body)+" gets the page "+r.URL.Path), 1000)
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		_, err = w.Write(answer)
		check(err)
	})
	check(http.ListenAndServeTLS(address, certificate, certificate, nil))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
