package api

import "muster/internal/model"

// FirmwareList is POST /v1/firmware/list. Streams [NodeFirmware].
type FirmwareList struct{ Range }

// NodeFirmware is what firmware a machine has, ordered by name.
type NodeFirmware struct {
	Result
	Firmware []model.Firmware `json:"firmware"`
}

// FirmwareUpdate are the parameters of POST /v1/firmware/update; the body is the image. Name is that of the file, by whose ending some controllers
// judge; Targets are names of [FirmwareList] that it is for, none leaves it to the controller. Streams [FirmwareStep].
type FirmwareUpdate struct {
	Range
	Name    string   `json:"name"`
	Targets []string `json:"targets,omitempty"`
}

// FirmwareStep is one line of progress; the last one of a node has Done, or an error. Lines without either are not counted by the trailer.
type FirmwareStep struct {
	Result
	Step    string `json:"step,omitempty"`
	Percent *int   `json:"percent,omitempty"` // not there: the controller does not say
	Done    bool   `json:"done,omitempty"`
}
