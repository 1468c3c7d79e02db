module m2r.dev/toolbox

go 1.26
