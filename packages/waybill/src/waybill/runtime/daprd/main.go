// Command daprd is Dapr's sidecar with the components that Dapr counts among the stable ones, by a tag of the build,
// and those that the platform uses beside. The released one has all, many of them clients of clouds: a thousand packages
// more to compile.
package main

import (
	"github.com/dapr/components-contrib/bindings/smtp"
	"github.com/dapr/components-contrib/nameresolution/sqlite"
	"github.com/dapr/dapr/cmd/daprd/app"
	"github.com/dapr/dapr/pkg/components/bindings"
	"github.com/dapr/dapr/pkg/components/nameresolution"
)

func main() {
	bindings.DefaultRegistry.RegisterOutputBinding(smtp.NewSMTP, "smtp")
	nameresolution.DefaultRegistry.RegisterComponent(sqlite.NewResolver, "sqlite")
	app.Run()
}
