package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model"
)

func sensors(s *session) *cobra.Command {
	var q api.Sensors
	c := &cobra.Command{
		Use:        "sensors NODERANGE",
		SuggestFor: []string{"rvitals", "nodesensors"},
		GroupID:    JobHardware,
		Short:      "Read temperatures, fans, voltages, power and states",
		Long: `Read the sensors of machines, as their controllers name them: a line a sensor. What is not well says so; -v adds the thresholds.
The same words whatever the protocol: temperature, fan, voltage, current, power; states by the type that the controller gives.`,
		Example: `  muster sensors r1n7
  muster sensors compute --type temperature,fan
  muster sensors everything --bad`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) (err error) {
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeSensors]{
			what: "sensors", path: "/v1/sensors", in: q,
			node: func(r *api.NodeSensors) *api.Result { return &r.Result },
			text: func(r *api.NodeSensors) []string {
				out := make([]string, len(r.Sensors))
				for i, v := range r.Sensors {
					out[i] = printable(sensorText(v, s.flags.verbose))
				}
				return out
			},
		})
	}
	c.Flags().StringSliceVar(&q.Types, "type", nil, "only these `kinds`, with commas; * and ? are patterns")
	c.Flags().BoolVar(&q.Bad, "bad", false, "only what is not well")
	return s.rangeFlags(c)
}

// sensorText is "CPU 1: 45 °C", "Fan 2: 300 RPM, critical", "PSU 1: presence detected".
func sensorText(v model.Sensor, thresholds bool) string {
	var w []string
	if v.Value != nil {
		w = append(w, strings.TrimSpace(number(*v.Value)+" "+v.Unit))
	}
	if v.State != "" {
		w = append(w, v.State)
	}
	if v.Health != model.Healthy || len(w) == 0 {
		w = append(w, string(v.Health))
	}
	if thresholds {
		for _, t := range []struct {
			name string
			at   *float64
		}{{"low critical", v.LowCritical}, {"low warning", v.LowWarning}, {"high warning", v.HighWarning}, {"high critical", v.HighCritical}} {
			if t.at != nil {
				w = append(w, t.name+" "+number(*t.at))
			}
		}
	}
	return fmt.Sprintf("%s: %s", v.Name, strings.Join(w, ", "))
}

// number is a value with at most three decimals.
func number(v float64) string {
	text := strconv.FormatFloat(v, 'f', 3, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
