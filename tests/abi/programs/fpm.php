<?php
// A page under php-fpm: FFI is allowed in what was preloaded only.
try {
    FFI::cdef('int getpid(void);');
    echo "cdef is not restricted\n";
} catch (FFI\Exception $e) {
}
$client = Ewsnotify\Client::open(json_decode($_SERVER['OPTIONS'], true));
$client->watch();
$until = hrtime(true) + 20_000_000_000;
while (hrtime(true) < $until && ($event = $client->next(1000)) !== false) {
    if ($event !== null) {
        echo json_encode($event), "\n";
        if ($event['type'] === 'Connected') {
            break;
        }
    }
}
$client->close();
echo "done\n";
