/* payment.c: an example service: POST /pay {"card":…,"amount":…,"currency":…}. The amount is in
 * cents. Only the last four digits of a card number reach the log and the answer. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <logclient.h>

#include "service.h"

#define AMOUNT_MAX 1000000 /* cents */
#define CARD_MIN   12      /* digits, ISO/IEC 7812 */
#define CARD_MAX   19

/* Test numbers: for these, the card network that is not there refuses, or does not answer. */
#define CARD_REFUSED    "4000000000000002"
#define CARD_UNANSWERED "4000000000000119"

static unsigned long last_payment;

/* Whether the text is a card number: only digits, and the check digit is right (Luhn). */
static bool is_card(const char *text)
{
    size_t n = strlen(text);
    unsigned sum = 0;
    if (n < CARD_MIN || n > CARD_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)text[n - 1 - i])) {
            return false;
        }
        unsigned digit = (unsigned)(text[n - 1 - i] - '0') * (i % 2 == 1 ? 2 : 1);
        sum += digit > 9 ? digit - 9 : digit;
    }
    return sum % 10 == 0;
}

static bool is_currency(const char *text)
{
    return strlen(text) == 3 && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3;
}

/* "************4242"; `card` has passed is_card(). */
static void mask_card(const char *card, char masked[CARD_MAX + 1])
{
    size_t n = strlen(card);
    memset(masked, '*', n - 4);
    memcpy(masked + n - 4, card + n - 4, 5);
}

static void charge(struct evhttp_request *req, const char *card, int amount, const char *currency)
{
    char masked[CARD_MAX + 1], id[32];
    mask_card(card, masked);
    check_log(send_logf("payment", "debug", "asking the card network about %s", masked));
    if (strcmp(card, CARD_REFUSED) == 0) {
        check_log(send_logf("payment", "warn", "card %s refused for %d.%02d %s", masked,
                            amount / 100, amount % 100, currency));
        service_refuse(req, 402, "the card was refused");
        return;
    }
    if (strcmp(card, CARD_UNANSWERED) == 0) {
        check_log(
            send_logf("payment", "error", "the card network does not answer for card %s", masked));
        service_refuse(req, 502, "the card network does not answer; nothing was charged");
        return;
    }
    snprintf(id, sizeof id, "p-%lu", ++last_payment);
    check_log(send_logf("payment", "info", "%s: %d.%02d %s with card %s", id, amount / 100,
                        amount % 100, currency, masked));
    service_reply(req, 201,
                  json_pack("{s:s, s:s, s:i, s:s}", "payment", id, "card", masked, "amount", amount,
                            "currency", currency));
}

static void pay(struct evhttp_request *req, const json_t *body)
{
    const char *card = service_text(req, body, "card", CARD_MAX);
    json_int_t amount = card ? service_number(req, body, "amount", 1, AMOUNT_MAX) : -1;
    const char *currency = amount > 0 ? service_text(req, body, "currency", 3) : NULL;
    if (!currency) {
        return;
    }
    if (!is_card(card)) {
        check_log(send_log("payment", "warn", "payment with a text that is no card number"));
        service_refuse(req, 400, "card must be %d to %d digits with a right check digit", CARD_MIN,
                       CARD_MAX);
    } else if (!is_currency(currency)) {
        service_refuse(req, 400, "currency must be three capital letters, such as EUR");
    } else {
        charge(req, card, (int)amount, currency);
    }
}

int main(int argc, char **argv)
{
    static const struct route routes[] = {{"/pay", pay}};
    static const struct service payment = {"payment", "PAYMENT_PORT", 5001, routes, 1};
    return service_main(&payment, argc, argv);
}
