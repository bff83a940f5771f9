package api

import "muster/internal/model"

// Sensors is POST /v1/sensors. Types are kinds of sensors (temperature, fan, …) or globs of them; none is all. Bad asks for those only that are
// not well. Streams [NodeSensors].
type Sensors struct {
	Range
	Types []string `json:"types,omitempty"`
	Bad   bool     `json:"bad,omitempty"`
}

// NodeSensors are readings, in the order of the controller.
type NodeSensors struct {
	Result
	Sensors []model.Sensor `json:"sensors"`
}
