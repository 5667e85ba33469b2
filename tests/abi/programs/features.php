<?php
// What the wrapper offers beside the loop of worker.php. Says "mail" where it wants one delivered.
declare(strict_types=1);
require getenv('EWSNOTIFY_WRAPPER');
use Ewsnotify\{Client, Failure};

$options = json_decode($argv[1], true);
$folder = $argv[2];
function want(): void
{
    fwrite(STDOUT, "{\"type\":\"mail\"}\n");
}
function until(Client $client, string $type): array
{
    do {
        $event = $client->next(60000) ?: must(false, "no $type");
    } while ($event['type'] !== $type);
    return $event;
}
function must(bool $condition, string $what): void
{
    if (!$condition) {
        fwrite(STDERR, "$what\n");
        exit(1);
    }
}
must(preg_match('/^\d+\.\d+\.\d+$/', Client::version()) === 1, 'version');
must(in_array('drain_seconds', array_column(Client::options(), 'name')), 'options');
try {
    Client::open(['nonsense' => 1]);
    must(false, 'a wrong option was taken');
} catch (Failure $e) {
    must($e->status === -1 && str_contains($e->getMessage(), 'nonsense'), $e->getMessage());
}
try {
    Client::open(['dispatch' => 'thread']);
    must(false, 'a thread may call PHP');
} catch (InvalidArgumentException $e) {
}

$client = Client::open($options + ['ack' => 'manual', 'events' => 'NewMail', 'state_dir' => "$folder/state"]);
$watch = $client->watch();
until($client, 'Connected');
want();
$mail = until($client, 'NewMail');
$item = $client->getItem($watch, $mail['item_id'], $mail['change_key']);
must(str_starts_with($item['subject'], 'Mail '), 'the subject');
$client->saveMime($watch, $mail['item_id'], $mail['change_key'], "$folder/mail.eml");
must(filesize("$folder/mail.eml") > 100, 'the message');
$client->traceWire("$folder/wire.log");
$client->saveAttachment($watch, $item['attachments'][0]['id'], "$folder/attachment");
$client->traceWire(null);
must(str_contains(file_get_contents("$folder/wire.log"), 'Authorization: Basic ***'), 'the wire log');
try {
    $client->getItem($watch, 'nobody');
    must(false, 'nobody is there');
} catch (Failure $e) {
    must(str_starts_with($e->serverCode, 'Error'), 'the code');
}
$client->retry($mail, 1);
$again = until($client, 'NewMail');
must($again['item_id'] === $mail['item_id'] && $again['attempt'] === 2, 'given again');
$client->park($again);
$parked = $client->parked();
must($parked[0]['event']['item_id'] === $mail['item_id'], 'parked');
$client->release($parked[0]['id']);
$client->ack(until($client, 'NewMail'));
must(count($client->status()['watches']) === 1, 'status');
$client->unwatch($watch);
until($client, 'Closed');
$client->wake();
must($client->next(-1) === null, 'woken');
// A time beyond 32 bits is a long one: it is the signal that ends the wait.
pcntl_async_signals(true);
$rang = false;
pcntl_signal(SIGALRM, function () use (&$rang): void {
    $rang = true;
});
pcntl_alarm(1);
must($client->next((1 << 32) + 1) === null && $rang, 'a long time');
unset($client);

// To what follows, what came so far is old: dates are of whole seconds.
sleep(2);
// A callback: what it throws comes out, and what is closed ends the loop.
$client = Client::open($options + ['events' => 'NewMail']);
$told = [];
$client->onEvent(function (array $event) use (&$told): void {
    $told[] = $event['type'];
    if ($event['type'] === 'NewMail') {
        throw new LogicException($event['item_id']);
    }
});
$client->watch();
while (!in_array('Drained', $told)) {
    $client->dispatch(60000);
}
want();
try {
    while ($client->dispatch(60000) !== false) {
    }
    must(false, 'nothing was thrown');
} catch (LogicException $e) {
    must(end($told) === 'NewMail', 'thrown at once');
}
$client->close();
while ($client->dispatch(0) !== false) {
}
must(end($told) === 'Closed', 'closed');
unset($client);

// The host keeps the state.
$state = [];
$ids = [];
for ($round = 0; $round < 2; ++$round) {
    sleep(2);
    $client = Client::openWithState($options + ['events' => 'NewMail'], $state);
    $client->watch();
    while (($event = $client->next(60000)) !== false) {
        switch ($event['type'] ?? null) {
            case 'StateChanged':
                if (isset($event['value'])) {
                    $state[$event['key']] = $event['value'];
                } else {
                    unset($state[$event['key']]);
                }
                $client->ack($event);
                break;
            case 'Drained':
                want();
                break;
            case 'NewMail':
                $ids[] = $event['item_id'];
                $client->close();
        }
    }
}
must(count(array_unique($ids)) === 2 && count($ids) === 2 && $state !== [], 'the state');

// What a server sends by itself, with and without a client.
$body = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><SendNotification '
    . 'xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><ResponseMessages><SendNotificationResponseMessage '
    . 'ResponseClass="Success"><Notification><SubscriptionId>HwBz=</SubscriptionId><NewMailEvent><ItemId Id="AAMk"/></NewMailEvent>'
    . '</Notification></SendNotificationResponseMessage></ResponseMessages></SendNotification></s:Body></s:Envelope>';
$push = Client::pushParse($body);
must($push['messages'][0]['events'][0]['item_id'] === 'AAMk' && str_contains($push['reply'], '>OK<'), 'push_parse');
$client = Client::open($options);
$fed = $client->pushFeed($body);
must($fed['http_status'] === 200 && str_contains($fed['reply'], '>Unsubscribe<'), 'push_feed');
try {
    $client->pushFeed('<html/>');
    must(false, 'a page was taken for a notification');
} catch (Failure $e) {
    must($e->status === -8, $e->getMessage());
}
unset($client);
echo "{\"type\":\"fine\"}\n";
