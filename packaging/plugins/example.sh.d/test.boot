{"device":"default","persist":false,"firmware":""}
